-- Appends, then stores a record with its position in KEYS 3 and removes the lease in KEYS 4, but not a hold; answers the
-- sequence.
local function store(record, ttl)
  local s = append()
  call('SET', KEYS[3], record:sub(1, 4) .. struct.pack('>I8I8', E, s) .. record:sub(21), 'PX', ttl)
  local holder = call('GET', KEYS[4])
  if holder and holder ~= 'H' then call('DEL', KEYS[4]) end
  return s
end
