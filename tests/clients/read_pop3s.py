# Prints all messages: host port user password certificate
import poplib, ssl, sys
host, port, user, password, certificate = sys.argv[1:6]
context = ssl.create_default_context(cafile=certificate)
pop = poplib.POP3_SSL(host, int(port), context=context, timeout=60)
pop.user(user)
pop.pass_(password)
count, _ = pop.stat()
for number in range(1, count + 1):
    for line in pop.retr(number)[1]:
        sys.stdout.buffer.write(line + b"\n")
pop.quit()
