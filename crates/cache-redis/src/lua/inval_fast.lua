-- Keys alone, of which no record has a version, no hold, no floor and nothing for the public channel.
local at_e, at_s = tonumber(ARGV[3]), tonumber(ARGV[4])
local last = 2 + 3 * ARGV[7]
local FAST = #KEYS == last and #ARGV == 8 and ARGV[6] == ''
  and at_e and at_s and at_e < LIMIT - 1 and at_s < LIMIT
local RECORD
if FAST then
  for i = 3, last, 3 do
    local head = redis.call('GETRANGE', KEYS[i], '0', '27')
    if #head == 28 and head:sub(21) ~= '\0\0\0\0\0\0\0\0' then
      FAST = false
      break
    end
    -- A hold stays.
    if redis.call('GET', KEYS[i + 1]) == 'H' then
      redis.call('UNLINK', KEYS[i])
    else
      redis.call('UNLINK', KEYS[i], KEYS[i + 1])
    end
  end
end
