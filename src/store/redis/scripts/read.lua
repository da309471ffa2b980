-- Reads a session; writes nothing.
-- Answers {'OK', attempt, nonce, node, body} or {'UNKNOWN'}.
local text = redis.call('GET', KEYS[2]) or ''
local _, ends, attempt, nonce, node = string.find(text, HEADER)
if not ends then return {'UNKNOWN'} end
return {'OK', attempt, nonce, node, string.sub(text, ends + 1)}
