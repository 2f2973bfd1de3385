FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p registrar \
 && mkdir -p /out/var/lib/registrar \
 && cp target/release/registrar /out/registrar

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/registrar /usr/local/bin/registrar
COPY --from=build --chown=65532:65532 /out/var/lib/registrar /var/lib/registrar
USER 65532:65532
WORKDIR /var/lib/registrar
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["registrar", "healthcheck"]
ENTRYPOINT ["registrar"]
CMD ["serve", "--config", "/etc/registrar/registrar.toml"]
