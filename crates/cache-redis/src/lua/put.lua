-- Stores a record and appends: order of arrival decides. The position goes into its header here, since only here it
-- is known; its checksum leaves out those bytes.
-- KEYS 3 record · 4 lease · ARGV 7 record · 8 ttl ms
local record = ARGV[7]
if not header(record) then return redis.error_reply('RECORD the bytes to put have no record header') end
return publish(store(record, ARGV[8]))
