# Submits standard input: host port user password certificate recipient
import smtplib, ssl, sys
host, port, user, password, certificate, to = sys.argv[1:7]
smtp = smtplib.SMTP(host, int(port), timeout=60)
smtp.starttls(context=ssl.create_default_context(cafile=certificate))
smtp.login(user, password)
smtp.sendmail(user, [to], sys.stdin.buffer.read())
smtp.quit()
