-- Where the nodes stand: { epoch, sequence, server ms, { node, position:ms, .. } }.
ensure()
local s = head()
local all, rows = call('HGETALL', META), {}
for i = 1, #all, 2 do
  if all[i]:sub(1, 2) == 'n:' then
    rows[#rows + 1] = all[i]:sub(3)
    rows[#rows + 1] = all[i + 1]
  end
end
return { EPOCH, s, millis(), rows }
