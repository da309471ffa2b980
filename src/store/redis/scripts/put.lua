-- Puts sessions under a fence, each on its own and in their order. With a body this is a write,
-- which is itself a claim and creates the session; without, a claim, which keeps the body.
-- ARGV: 2 and on, five for each session: attempt, nonce, node or '', lifetime ms, and '+' with the
--   body behind it or '' for none.
-- Answers a list for each: {'OK'} for a write, {'OK', body, node that held it} for a claim,
-- {'UNKNOWN'} or {'FENCED', attempt}.
local stored, answers = {}, {}
-- A key that holds anything but a text is as missing, and stops none of the others.
for at, text in ipairs(redis.call('MGET', unpack(KEYS, 2))) do stored[KEYS[at + 1]] = text end
for at = 2, #KEYS do
  local key, from = KEYS[at], 5 * at - 8
  local attempt, nonce, node, lifetime, body = unpack(ARGV, from, from + 4)
  local text = stored[key]
  local known = text and string.match(text, HEADER)
  local holder = held_against(text, attempt, nonce)
  if holder then
    answers[at - 1] = {'FENCED', holder}
  elseif body == '' and not known then
    answers[at - 1] = {'UNKNOWN'}
  else
    if body == '' then
      local _, ends, _, _, from_node = string.find(text, HEADER)
      body = string.sub(text, ends + 1)
      answers[at - 1] = {'OK', body, from_node}
    else
      body = string.sub(body, 2)
      answers[at - 1] = {'OK'}
    end
    text = attempt .. ' ' .. nonce .. ' ' .. node .. '\n' .. body
    redis.call('SET', key, text, 'PX', lifetime)
    stored[key] = text
  end
end
return {'OK', unpack(answers)}
