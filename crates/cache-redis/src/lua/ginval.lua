-- Stamps groups, appends.
-- ARGV 7 keep ms · 8 most groups · 9.. groups, each once
ensure()
local now, keep, max = millis(), tonumber(ARGV[7]), tonumber(ARGV[8])
local count = tonumber(call('HGET', META, 'gc') or '') or 0

local function new()
  local found = 0
  for i = 9, #ARGV do
    if call('HEXISTS', META, 'g:' .. ARGV[i]) == 0 then found = found + 1 end
  end
  return found
end

-- The table is full: stamps go that are older than any entry can be.
local added = new()
if count + added > max then
  local all, old, left = call('HGETALL', META), {}, 0
  for i = 1, #all, 2 do
    if all[i]:sub(1, 2) == 'g:' then
      if now - tonumber(all[i + 1]:match(':(%d+)$')) > keep then old[#old + 1] = all[i] else left = left + 1 end
    end
  end
  forget(old)
  count, added = left, new()
end

-- Still full: a new epoch makes everything worthless, which is what the caller wanted and more.
if count + added > max then
  bump('group overflow')
  return publish(append())
end

local epoch, s = E, append()
-- A new epoch began just now: there the groups are new, whatever was counted before.
if E ~= epoch then count, added = 0, #ARGV - 8 end
local fields, stamp = { 'gc', count + added }, s .. ':' .. now
for i = 9, #ARGV do
  fields[#fields + 1] = 'g:' .. ARGV[i]
  fields[#fields + 1] = stamp
end
for from = 1, #fields, 500 do call('HSET', META, unpack(fields, from, math.min(from + 499, #fields))) end
return publish(s)
