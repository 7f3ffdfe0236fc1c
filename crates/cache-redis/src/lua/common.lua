-- What every script that writes begins with: the caller's position, the epoch of the partition, bump and append.
--
-- KEYS 1 meta (hash) · 2 log (stream) · 3.. as the script says
-- ARGV 1 hint channel · 2 partition · 3 4 the caller's position
--      in scripts that append: 5 envelope · 6 JSON object for the public channel, or '' · 7.. as the script says
-- In front of this file stand the constants of the deployment: PUBLISH (or SPUBLISH), PUBLIC (a channel), ENTRIES_MAX
-- and BYTES_MAX of the log, TRIM_EVERY so many appends, CLOCK_BACK_MS by how much the clock may go back.
--
-- The last sequence is the last id of the log: the stream counts by itself, and what the log says cannot differ from
-- what was counted. A log that is gone is a lost history and begins an epoch.
--
-- A script is not rolled back when it dies, so every prefix of one must be safe. What was removed may be missing, an
-- entry without its effect was never acknowledged. Hence: delete, append, the rest, publish.
--
-- Scripts run in front of everybody else's commands and mostly with cold caches: each call, closure and formatted number
-- is felt. Hence fast.lua, which stands before all this where it can.

local call, META, LOG, CHANNEL = redis.call, KEYS[1], KEYS[2], ARGV[1]
local AT_E, AT_S = tonumber(ARGV[3]), tonumber(ARGV[4])

-- One epoch must be left above the caller's.
if not AT_E or not AT_S or AT_E >= LIMIT - 1 or AT_S >= LIMIT then
  return redis.error_reply('POSITION the position of the caller is at or above 2^53')
end

-- The epoch, as text (as Redis keeps it) and as number.
local EPOCH, E

local function millis()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- A hint: the position in front of the envelope, as cache_events::wire::encode_hint writes it.
local function hint(sequence, envelope)
  call(PUBLISH, CHANNEL, struct.pack('>I4I8I8', ARGV[2], E, sequence) .. envelope)
end

-- HDEL in portions, for unpack has a limit.
local function forget(fields)
  for from = 1, #fields, 500 do call('HDEL', META, unpack(fields, from, math.min(from + 499, #fields))) end
end

-- Which life of which master this is. A master draws its replication id when it starts and when it is promoted, and
-- nobody else has it: docs/decisions/0008. Without it a server restored from an old snapshot would give the same
-- positions to other events. A plain find, for a pattern that walks over the text costs more than INFO itself.
local function incarnation()
  local info = call('INFO', 'replication')
  -- A master that was: its replication id is that of its successor, and a script that only reads would be answered.
  -- This write is refused.
  if not info:find('role:master', 1, true) then call('HSET', META, 'why', 'replica') end
  local at = info:find('master_replid:', 1, true)
  return info:sub(at + 14, at + 53)
end

-- The last id that the log gave out, which an emptied one remembers; nothing where there is no log.
local function last_id()
  local about = redis.pcall('XINFO', 'STREAM', LOG)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then return about[i + 1] end
  end
end

-- A new epoch, above all that this server and the caller know: everything written before is dead. The rows of the
-- nodes stay, the groups go (what they stamped is dead anyway), the log begins anew with a marker.
local function bump(why)
  local t, old = call('TIME'), tonumber(call('HGET', META, 'e') or '') or 0
  if old == 0 then
    -- Meta is gone; the log may still tell how far the epochs had come. (Not if it is of somebody else.)
    local known = tonumber((last_id() or ''):match('^%d+') or '') or 0
    if known < LIMIT - 1 then old = known end
  end
  E = t[1] * 1000000 + t[2]
  -- A clock that was put back: two masters that know the same past must not take the same number, nor one that was emptied
  -- meanwhile the number that it gave before.
  local next = math.max(old, AT_E) + 1
  if E < next then
    local apart = (tonumber(incarnation():sub(1, 5), 16) + E) % 1048576
    E = math.max(next, math.min(next + apart, LIMIT - 1))
  end
  if E >= LIMIT then error('the epoch would reach 2^53') end
  -- Never tostring: that turns to exponents at 1e14.
  EPOCH = string.format('%.0f', E)
  -- Emptied, not deleted: in a slot that is moving a key that is gone could not be written here again.
  redis.pcall('XTRIM', LOG, 'MAXLEN', '=', 0)
  local all, groups = call('HGETALL', META), {}
  call('HSET', META, 'e', EPOCH, 'gc', 0, 'i', incarnation(), 'why', why, 't', t[1] * 1000 + math.floor(t[2] / 1000))
  for i = 1, #all, 2 do
    if all[i]:sub(1, 2) == 'g:' then groups[#groups + 1] = all[i] end
  end
  forget(groups)
  if type(redis.pcall('XADD', LOG, EPOCH .. '-0', 'd', '')) == 'table' then
    -- No stream, or not one of ours.
    call('DEL', LOG)
    call('XADD', LOG, EPOCH .. '-0', 'd', '')
  end
  hint(0, '')
end

-- Is the history still the one that the caller knows? If not, a new epoch begins.
--
-- Nor if the clock went back: stamps must outlive the records that they outdate, and one that is set now would not outlive
-- what was stored before, once the clock is right again. (A clock that was ahead may also have removed stamps and left
-- records.) The latest time that was seen is noted once a second.
local function ensure()
  local known, now = call('HMGET', META, 'e', 'i', 't'), millis()
  local latest = tonumber(known[3] or '') or 0
  EPOCH = known[1]
  E = tonumber(EPOCH or '')
  if not E then
    bump('init')
  elseif known[2] ~= incarnation() then
    bump('incarnation')
  elseif AT_E > E then
    bump('future cursor')
  elseif latest - now > CLOCK_BACK_MS then
    bump('clock')
  elseif now - latest >= 1000 then
    -- Not by force: what only asks is answered without memory, too.
    redis.pcall('HSET', META, 't', now)
  end
end

-- The sequence in an id of the log; nothing if it is of another epoch.
local function sequence(id)
  if id and id:sub(1, #EPOCH + 1) == EPOCH .. '-' then return tonumber(id:sub(#EPOCH + 2)) end
end

-- Whether the caller has seen more of this epoch than there is.
local function behind(s) return AT_E == E and AT_S > s end

-- The last sequence.
local function head()
  local last = call('XREVRANGE', LOG, '+', '-', 'COUNT', '1')[1]
  local id = last and last[1]
  if not id then
    -- Emptied or lost.
    id = last_id()
  end
  local s = sequence(id)
  if s and not behind(s) then return s end
  bump(s and 'future cursor' or 'lost log')
  return 0
end

-- Appends the envelope of ARGV and answers its sequence.
local function append()
  local id = redis.pcall('XADD', LOG, 'NOMKSTREAM', EPOCH .. '-*', 'd', ARGV[5])
  local s = type(id) == 'string' and sequence(id)
  -- The one before it must be at or above what the caller knows.
  if s and not behind(s - 1) then return s end
  -- No memory and the like is for the caller to hear. What else is wrong is the log.
  if type(id) == 'table' and id.err:sub(1, 4) ~= 'ERR ' and id.err:sub(1, 9) ~= 'WRONGTYPE' then error(id) end
  bump(s and 'future cursor' or 'lost log')
  return sequence(call('XADD', LOG, EPOCH .. '-*', 'd', ARGV[5]))
end

-- Keeps the log below its limits. What entries weigh is estimated by Redis from samples, so this runs once in many.
local function trim()
  local entries, bytes = call('XLEN', LOG), call('MEMORY', 'USAGE', LOG) or 0
  local keep = math.min(entries, ENTRIES_MAX)
  if bytes * keep > BYTES_MAX * entries then keep = math.max(1, math.floor(0.9 * entries * BYTES_MAX / bytes)) end
  if keep < entries then call('XTRIM', LOG, 'MAXLEN', '=', keep) end
end

-- Tells everybody what was appended; answers the position.
local function publish(s)
  hint(s, HINT or ARGV[5])
  if ARGV[6] ~= '' then
    local members = ARGV[6]:sub(1, -2)
    if members ~= '{' then members = members .. ',' end
    call('PUBLISH', PUBLIC, members .. '"epoch":' .. EPOCH .. ',"sequence":' .. s .. '}')
  end
  if s % TRIM_EVERY == 0 then trim() end
  return EPOCH .. '-' .. s
end
