-- Makes everything in the server ARGV[1] ms older: as if that time had passed.
local by = tonumber(ARGV[1])
local function text(number) return string.format('%d', number) end
local function older(number) return text(tonumber(number) - by) end
local function older_scores(key)
  local all = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for at = 1, #all, 2 do redis.call('ZADD', key, older(all[at + 1]), all[at]) end
end
local of = {
  meta = function(key)
    for _, field in ipairs({'ts', 'first_ts', 'until', 'log_until', 'care'}) do
      local value = redis.call('HGET', key, field)
      if value then redis.call('HSET', key, field, older(value)) end
    end
  end,
  blanks = function(key)
    for _, field in ipairs(redis.call('HKEYS', key)) do
      redis.call('HSET', key, field, older(redis.call('HGET', key, field)))
    end
  end,
  state = function(key)
    for _, field in ipairs(redis.call('HKEYS', key)) do
      local offset, ts, due, rest =
        string.match(redis.call('HGET', key, field), '^(%d+) (%d+) (%d+)(.*)$')
      due = due == '0' and '0' or older(due)
      redis.call('HSET', key, field, offset .. ' ' .. older(ts) .. ' ' .. due .. rest)
    end
  end,
  log = function(key)
    local entries, last = redis.call('XRANGE', key, '-', '+'), nil
    local about = redis.call('XINFO', 'STREAM', key)
    for at = 1, #about, 2 do
      if about[at] == 'last-generated-id' then last = about[at + 1] end
    end
    redis.call('DEL', key)
    for _, entry in ipairs(entries) do
      redis.call('XADD', key, entry[1], 't', older(entry[2][2]), 'd', entry[2][4])
    end
    if #entries == 0 then
      redis.call('XADD', key, last, 't', '0', 'd', '')
      redis.call('XDEL', key, last)
    end
    redis.call('XSETID', key, last)
  end,
  due = older_scores,
  ends = older_scores,
}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = string.match(key, '^{[^}]*}:(%l+)')
  local left = redis.call('PTTL', key)
  if kind ~= 'generation' and left < 0 then return redis.error_reply(key .. ' has no lifetime') end
  if of[kind] then of[kind](key) end
  if kind ~= 'generation' then redis.call('PEXPIRE', key, text(left - by)) end
end
return 'OK'
