-- Stores a record iff the lease is still there. It is gone after an invalidation, when its time is over, after a loss.
-- An epoch or a stamp of the resource since the lease makes the record worthless: it is refused as well.
-- KEYS 1 meta · 2 record · 3 lease · 4 stamp of the resource · ARGV 1 token · 2 record · 3 ttl ms
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
local epoch = tonumber(redis.call('HGET', KEYS[1], 'e') or '') or 0
if dead(header(ARGV[2]), epoch, parse(redis.call('GET', KEYS[4]))) then
  redis.call('DEL', KEYS[3])
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[3])
return 1
