# Walks through a maildrop over STLS: host port user password certificate
import poplib, ssl, sys
host, port, user, password, certificate = sys.argv[1:6]
def connect():
    pop = poplib.POP3(host, int(port), timeout=60)
    pop.stls(ssl.create_default_context(cafile=certificate))
    return pop
pop = connect()
pop.user(user)
try:
    pop.pass_("wrong")
    raise SystemExit("a wrong password was taken")
except poplib.error_proto as error:
    assert b"-ERR" in error.args[0], error
pop.close()
pop = connect()
assert "UIDL" in pop.capa()
pop.user(user)
pop.pass_(password)
count, size = pop.stat()
total = 0
for number in range(1, count + 1):
    response, lines, octets = pop.retr(number)
    listed = int(pop.list(number).split()[2])
    got = sum(len(line) + 2 for line in lines)
    assert got == listed, (got, listed)
    total += listed
    assert len(pop.top(number, 1)[1]) <= len(lines)
    assert pop.uidl(number).split()[2]
assert total == size, (total, size)
print(count, "messages")
pop.quit()
