-- Says who a node is, in a hash of its own: syncs read and copy the meta, and never this. A newcomer removes the rows that are
-- over. KEYS 1 roster (hash) · ARGV 1 node · 2 description, or '' to leave · 3 ms for which a row counts · 4 most rows
if ARGV[2] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  local all, left = redis.call('HGETALL', KEYS[1]), 0
  for i = 1, #all, 2 do
    if math.abs(now - (tonumber(all[i + 1]:match('^(%d+):')) or 0)) > tonumber(ARGV[3]) then
      redis.call('HDEL', KEYS[1], all[i])
    else
      left = left + 1
    end
  end
  if left >= tonumber(ARGV[4]) then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], now .. ':' .. ARGV[2])
return 1
