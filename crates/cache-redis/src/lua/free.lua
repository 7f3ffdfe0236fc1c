-- Removes the lease of a key, or puts a hold in its place. A hold that is there stays until its time is over or a longer
-- one comes. KEYS 1 lease · ARGV 1 hold ms, or 0
local held, hold = redis.call('GET', KEYS[1]) == 'H', tonumber(ARGV[1])
if hold == 0 then
  if not held then redis.call('UNLINK', KEYS[1]) end
elseif not held or redis.call('PTTL', KEYS[1]) < hold then
  redis.call('SET', KEYS[1], 'H', 'PX', ARGV[1])
end
return 1
