# A password in the clear from another host is refused: host smtp pop3 imap user password
import imaplib, poplib, smtplib, sys
host, smtp_port, pop_port, imap_port, user, password = sys.argv[1:7]
smtp = smtplib.SMTP(host, int(smtp_port), timeout=60)
smtp.ehlo()
assert "PLAIN" not in smtp.esmtp_features.get("auth", ""), smtp.esmtp_features
code, answer = smtp.docmd("AUTH PLAIN AGEAYg==")
assert code in (523, 530, 538, 504), (code, answer)
pop = poplib.POP3(host, int(pop_port), timeout=60)
try:
    pop.user(user)
    pop.pass_(password)
    raise SystemExit("POP3 took a password in the clear")
except poplib.error_proto:
    pass
imap = imaplib.IMAP4(host, int(imap_port), timeout=60)
assert "LOGINDISABLED" in imap.capability()[1][0].decode(), imap.capability()
try:
    imap.login(user, password)
    raise SystemExit("IMAP took a password in the clear")
except imaplib.IMAP4.error:
    pass
