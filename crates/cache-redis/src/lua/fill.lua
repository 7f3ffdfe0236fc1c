-- Stores a record iff the lease is still there. It is gone after an invalidation or a put of the key, when its time is
-- over, and with all else after a loss. A record whose epoch or resource was overtaken since the lease was granted says
-- so itself, by the position that it carries.
-- KEYS 1 record · 2 lease · ARGV 1 token · 2 record · 3 ttl ms
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
