-- Stamps groups, appends.
-- ARGV 11 keep ms · 12 most groups · 13.. groups, each once
ensure()
local now, keep, max = millis(), tonumber(ARGV[11]), tonumber(ARGV[12])

local function new()
  local count = 0
  for i = 13, #ARGV do
    if redis.call('HEXISTS', META, 'g:' .. ARGV[i]) == 0 then count = count + 1 end
  end
  return count
end

-- The table is full: stamps go that are older than any entry can be.
local added = new()
if M.g + added > max then
  local all, old, left = redis.call('HGETALL', META), {}, 0
  for i = 1, #all, 2 do
    if all[i]:sub(1, 2) == 'g:' then
      if now - tonumber(all[i + 1]:match(':(%d+)$')) > keep then old[#old + 1] = all[i] else left = left + 1 end
    end
  end
  forget(old)
  M.g, added = left, new()
end

-- Still full: a new epoch makes everything worthless, which is what the caller wanted and more.
if M.g + added > max then
  bump('group overflow')
  return append()
end

local fields = { 'gc', text(M.g + added) }
for i = 13, #ARGV do
  fields[#fields + 1] = 'g:' .. ARGV[i]
  fields[#fields + 1] = text(M.s + 1) .. ':' .. text(now)
end
for from = 1, #fields, 500 do redis.call('HSET', META, unpack(fields, from, math.min(from + 499, #fields))) end
return append()
