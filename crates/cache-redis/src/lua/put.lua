-- Stores a record and appends: order of arrival decides. The position goes into its header here, since only here it
-- is known; its checksum leaves out those bytes.
-- KEYS 3 record · 4 lease · ARGV 11 record · 12 ttl ms
local record = ARGV[11]
if not header(record) then return redis.error_reply('RECORD the bytes to put have no record header') end
ensure()
redis.call('SET', KEYS[3], record:sub(1, 4) .. struct.pack('>I8I8', M.e, M.s + 1) .. record:sub(21), 'PX', ARGV[12])
redis.call('DEL', KEYS[4])
return append()
