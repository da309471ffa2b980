# syntax=docker/dockerfile:1
# The image of a node: the program and what it links to, no shell, not root.
#
#   docker build -t tidewire .
#   docker run -p 8080:8080 -v tidewire:/var/lib/tidewire -e TIDEWIRE__AUTH__HMAC_SECRET=… tidewire
#
# Probes, for whoever orchestrates it (there is no shell for a HEALTHCHECK): GET /healthz says that the process answers,
# GET /readyz is 503 while new connections should go elsewhere; both on internal_listen where that is set.

# The version of rust-toolchain.toml, which stays out of the context: rustup would install its other components.
FROM rust:1.95-bookworm AS rust
WORKDIR /src

# Manifests alone, each with an empty source: this stage's result changes only when one of them does.
FROM rust AS manifests
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock -delete \
 && find . -name Cargo.toml -printf '%h\n' | while read -r package; do \
      mkdir -p "$package/src" && : > "$package/src/lib.rs"; \
    done \
 && echo 'fn main() {}' > src/main.rs \
 && find . -type d -empty -delete

FROM rust AS build
COPY --from=manifests /src .
RUN cargo build --release --locked --package tidewire --bin tidewire
COPY . .
# Newer than what was built from the empty sources.
RUN find . -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --package tidewire --bin tidewire \
 && strip --strip-debug target/release/tidewire \
 && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/tidewire /usr/local/bin/tidewire
COPY --from=build --chown=65532:65532 /data /var/lib/tidewire
ENV TIDEWIRE__DATA_DIR=/var/lib/tidewire
VOLUME /var/lib/tidewire
EXPOSE 8080 9090
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/tidewire"]
CMD ["serve"]
