# The gateway and the sample services, one program. No shell, no package manager, no root: `lictor health` is its healthcheck.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /build

# The dependencies alone, against an empty program: a layer that stays until .cargo, Cargo.toml or Cargo.lock changes.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches tests/it \
    && touch src/lib.rs \
    && for file in src/main benches/balance benches/circuit benches/discovery benches/routes benches/telemetry tests/it/main; do echo 'fn main() {}' >$file.rs; done \
    && cargo build --locked --release \
    && rm -r src

COPY src src
# Newer than what was built of nothing.
RUN touch src/lib.rs src/main.rs && cargo build --locked --release

# All that it needs at run time: itself, the libraries it is linked with, authorities for TLS, a place for its state.
RUN mkdir -p /image/etc/ssl/certs /state/lictor \
    && cp target/release/lictor /image/lictor \
    && ldd /image/lictor | grep -o '/[^ ]*' | xargs -I @ cp -L --parents @ /image \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'lictor:x:65532:65532::/var/lib/lictor:/' >/image/etc/passwd

FROM scratch
COPY --from=build /image/ /
COPY --from=build --chown=65532:65532 /state/ /var/lib/
USER 65532:65532
EXPOSE 8000 8443 9902
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s CMD ["/lictor", "health"]
ENTRYPOINT ["/lictor"]
CMD ["run"]
