#!/bin/sh
# The users, groups and folders of the image. A volume that is mounted for the first time takes over
# owner and mode of the folder that it covers, so what is made here is what counts.
#
# Each socket has a folder, and so a volume, of its own. A container has only the volumes of the
# sockets that its daemon serves or calls. The folders are set-group-ID: a socket made in one belongs to
# its group, whoever made it, and has mode 0660.
set -eu

# Numbers are fixed, since volumes outlive images.
group() { groupadd --gid "$2" "$1"; }
user() { useradd --uid "$2" --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin "$1"; }

user correo-smtpd 2001
user correo-queued 2002
user correo-localdeliver 2003
user correo-remotedeliver 2004
user correo-pop3d 2005
user correo-imapd 2006
user correo-directoryd 2007
group correo-directory 2011
group correo-directory-auth 2012
group correo-queue-submit 2013
group correo-queue-agent 2014
group correo-mailbox 2015
group correo-tls 2016
group correo-admin 2017

# socket's folder, daemon that serves it, group that calls it
socket() { install -d -m 2710 -o "correo-$2" -g "$3" "/run/correo/$1"; }
install -d -m 0755 /run/correo
socket directory directoryd correo-directory
socket directory-auth directoryd correo-directory-auth
socket directory-admin directoryd correo-admin
socket queue-submit queued correo-queue-submit
socket queue-agent queued correo-queue-agent
socket queue-admin queued correo-admin
socket mailbox localdeliver correo-mailbox
socket mailbox-admin localdeliver correo-admin

state() { install -d -m 0700 -o "correo-$2" -g "correo-$2" "/var/lib/correo/$1"; }
install -d -m 0755 /var/lib/correo /etc/correo
state directory directoryd
state queue queued
state mail localdeliver
install -d -m 0750 -g correo-tls /etc/correo/tls
install -d -m 0750 -g correo-remotedeliver /etc/correo/secrets
