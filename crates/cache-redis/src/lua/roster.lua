-- Who the nodes say they are: { node, ms ago, description, .. }. KEYS 1 roster (hash) · ARGV 1 ms for which a row counts
local t = redis.call('TIME')
local now, all, rows = t[1] * 1000 + math.floor(t[2] / 1000), redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local said, description = all[i + 1]:match('^(%d+):(.*)$')
  local age = math.abs(now - (tonumber(said) or 0))
  if age <= tonumber(ARGV[1]) then
    rows[#rows + 1] = all[i]
    rows[#rows + 1] = age
    rows[#rows + 1] = description
  end
end
return rows
