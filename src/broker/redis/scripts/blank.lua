-- Blanks one entry of history: its offset stays, its data goes. A stream cannot be changed in
-- place, so the entry leaves it and `blanks` remembers its time. A key whose newest it was is
-- left with a tombstone.
-- KEYS: 2: meta, 3: log, 4: state, 5: live, 6: tombstones, 7: due, 8: blanks.
-- ARGV: 2: PUBLISH or SPUBLISH, 3: channel of announcements, 4: offset.
-- Answers {'OK'}, or {'GONE'} where history does not hold the offset.
local STATE, LIVE, TOMBSTONES, DUE, BLANKS = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local at = tonumber(ARGV[4])
local channel = read(KEYS[2])
if not channel or at > channel.last or at < held(KEYS[3], BLANKS, keep(channel)) then return {'GONE'} end
local entry = redis.call('XRANGE', KEYS[3], ARGV[4], ARGV[4])[1]
local ts = entry and entry[2][2] or redis.call('HGET', BLANKS, ARGV[4])
if not ts then return {'GONE'} end

-- The field of the state whose newest entry this is, and that entry.
local function newest()
  for _, ranks in ipairs({LIVE, TOMBSTONES}) do
    local field = redis.call('ZRANGEBYSCORE', ranks, ARGV[4], ARGV[4])[1]
    if field then return field, redis.call('HGET', STATE, field) end
  end
  local keyless = redis.call('HGET', STATE, '-')
  if keyless and tonumber(string.match(keyless, '^%d+')) == at then return '-', keyless end
end

redis.call('XDEL', KEYS[3], ARGV[4])
redis.call('HSET', BLANKS, ARGV[4], ts)
redis.call('PEXPIREAT', BLANKS, text(channel.log_ends))
local field, old = newest()
local due, epoch = string.match(old or '', '^%d+ %d+ (%d+) (%S+)\n')
if epoch and field == '-' then
  redis.call('HSET', STATE, '-', ARGV[4] .. ' ' .. ts .. ' 0 ' .. epoch .. '\n' .. BLANK)
  redis.call('ZREM', DUE, '-')
elseif epoch then
  local removed = redis.call('ZREM', LIVE, field)
  if removed == 1 and tonumber(due) > 0 and tonumber(due) <= now then
    -- It had expired and was not purged: expiry leaves no tombstone.
    redis.call('HDEL', STATE, field)
    redis.call('ZREM', DUE, field)
  else
    due = text(tonumber(ts) + channel.tombstones)
    local key = string.sub(field, 2)
    -- As `encoding.rs` reads it: version 1, the flags `deleted` and `key`.
    local data = '\1\20' .. string.char(#key) .. key
    redis.call('HSET', STATE, field, ARGV[4] .. ' ' .. ts .. ' ' .. due .. ' ' .. epoch .. '\n' .. data)
    redis.call('ZADD', TOMBSTONES, ARGV[4], field)
    redis.call('ZADD', DUE, due, field)
    redis.call('PEXPIREAT', TOMBSTONES, text(channel.ends))
    redis.call('PEXPIREAT', DUE, text(channel.ends))
  end
end
redis.call(ARGV[2], ARGV[3], 'blank ' .. ARGV[4] .. ' ' .. ts .. ' ' .. channel.epoch .. '\n')
return {'OK'}
