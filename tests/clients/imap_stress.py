# Many sessions change one mailbox at random; each checks what it is told, and in the end all have
# the same view. Arguments: host port user password seconds
import imaplib, random, re, socket, sys, threading, time
host, port, user, password, seconds = sys.argv[1:6]
CLIENTS = 8
errors, finals = [], {}

class Session:
    def __init__(self):
        self.socket = socket.create_connection((host, int(port)), 60)
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        self.count, self.uids = 0, []
        self.command(f"LOGIN {user} {password}")
        self.command("SELECT Stress")

    def command(self, text, literal=None):
        self.count += 1
        tag = f"t{self.count}"
        if literal is not None:
            text += " {%d+}\r\n%s" % (len(literal), literal.decode())
        self.socket.sendall(f"{tag} {text}\r\n".encode())
        by_number = text.split()[0] in ("FETCH", "STORE", "SEARCH")
        while True:
            line = self.lines.readline().decode("latin-1").rstrip("\r\n")
            assert line, f"closed after {text}"
            if line.startswith(tag + " "):
                assert " BAD " not in line, (text, line)
                return
            self.untagged(line, text, by_number)

    def untagged(self, line, text, by_number):
        found = re.match(r"\* (\d+) (EXISTS|EXPUNGE|FETCH)(.*)", line)
        if not found:
            return
        number, kind = int(found[1]), found[2]
        if kind == "EXISTS":
            assert number >= len(self.uids), f"{line} after {len(self.uids)}"
            self.uids += [None] * (number - len(self.uids))
            return
        assert 1 <= number <= len(self.uids), f"{line} with {len(self.uids)} messages"
        if kind == "EXPUNGE":
            # RFC 3501 §7.4.1
            assert not by_number, f"{line} within {text}"
            del self.uids[number - 1]
            return
        uid = re.search(r"UID (\d+)", found[3])
        if uid:
            assert self.uids[number - 1] in (None, int(uid[1])), f"{line}, was {self.uids[number - 1]}"
            self.uids[number - 1] = int(uid[1])
            known = [uid for uid in self.uids if uid]
            assert known == sorted(set(known)), "UIDs do not ascend"

def step(session, choose):
    kind, count = choose.randrange(8), len(session.uids)
    if kind < 2:
        session.command("APPEND Stress", b"Subject: x\r\n\r\nbody\r\n")
    elif kind == 2 and count:
        session.command(f"FETCH 1:{count} (UID FLAGS)")
    elif kind == 3 and count:
        session.command(f"STORE {choose.randint(1, count)} +FLAGS (\\Deleted)")
    elif kind == 4 and count:
        session.command(f"STORE {choose.randint(1, count)} FLAGS (\\Seen k{choose.randrange(5)})")
    elif kind == 5:
        session.command("EXPUNGE")
    elif kind == 6:
        session.command("NOOP")
    elif count:
        session.command(f"UID SEARCH 1:{count} UNSEEN")

barrier = threading.Barrier(CLIENTS, timeout=100)

def work(number, end):
    try:
        choose, session = random.Random(number), Session()
        while time.time() < end:
            step(session, choose)
        barrier.wait()
        # Nobody changes anything any more: within some rounds all have heard of all.
        for _ in range(20):
            session.command("NOOP")
            time.sleep(0.1)
        if session.uids:
            session.command(f"FETCH 1:{len(session.uids)} (UID)")
        finals[number] = tuple(session.uids)
    except Exception as error:
        errors.append((number, repr(error)))
        barrier.abort()

imap = imaplib.IMAP4(host, int(port), timeout=60)
imap.login(user, password)
imap.create("Stress")
end = time.time() + float(seconds)
threads = [threading.Thread(target=work, args=(n, end)) for n in range(CLIENTS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
errors = [e for e in errors if "BrokenBarrier" not in e[1]] or errors
assert not errors, errors
assert len(set(finals.values())) == 1, {n: len(uids) for n, uids in finals.items()}
print("all agree")
