#!/bin/sh
# Answers one request on standard input as the metadata service does, whatever was asked for.
while read -r line && [ "$line" != "$(printf '\r')" ]; do :; done
printf 'HTTP/1.1 200 OK\r\nServer: EC2ws\r\nContent-Type: text/plain\r\nContent-Length: 19\r\nConnection: close\r\n\r\ni-0123456789abcdef0'
