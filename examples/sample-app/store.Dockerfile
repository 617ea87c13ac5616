# A "database": it writes, so it is root on whatever is mounted, and its data has a volume of its own. A file of its own: the
# classic builder builds every stage above the one that is asked for.
FROM scratch AS plain
COPY sample-app /sample-app
ARG VERSION=dev
ENV VERSION=$VERSION
USER 0:0
VOLUME /data
ENTRYPOINT ["/sample-app"]
CMD ["store"]
