-- Restarts the lifetime of sessions; unknown ones are passed over.
-- KEYS: 2 and on: sessions. ARGV: 2: lifetime ms.
-- Answers {'OK'}.
for at = 2, #KEYS do redis.call('PEXPIRE', KEYS[at], ARGV[2]) end
return {'OK'}
