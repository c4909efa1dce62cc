# Sends with what smtplib can: host port user password certificate subject
import smtplib, ssl, sys
host, port, user, password, certificate, subject = sys.argv[1:7]
smtp = smtplib.SMTP(host, int(port), timeout=60)
smtp.ehlo()
smtp.starttls(context=ssl.create_default_context(cafile=certificate))
smtp.ehlo()
for extension in ["pipelining", "size", "8bitmime", "smtputf8", "chunking", "enhancedstatuscodes"]:
    assert smtp.has_extn(extension), (extension, smtp.esmtp_features)
assert not smtp.has_extn("starttls")
smtp.login(user, password)
text = (f"From: {user}\r\nTo: {user}\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n\r\n.leading dot\r\nñandú\r\n..\r\n").encode()
smtp.sendmail(user, [user], text, mail_options=["BODY=8BITMIME", "SMTPUTF8"])

# The same by BDAT (RFC 3030), in two chunks.
def command(line, data=b""):
    smtp.send(line.encode() + b"\r\n" + data)
    code, answer = smtp.getreply()
    assert code in (250, 251), (line, code, answer)
command(f"MAIL FROM:<{user}> BODY=8BITMIME")
command(f"RCPT TO:<{user}>")
command("BDAT 10", text[:10])
command(f"BDAT {len(text) - 10} LAST", text[10:])
smtp.quit()
