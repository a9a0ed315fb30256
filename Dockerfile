# The image that "make image" makes, for those who prefer a container engine. Say which version it is, as git is not in the build:
#
#   docker build --build-arg VERSION="$(git describe --tags --always --dirty)" --build-arg COMMIT="$(git rev-parse HEAD)" \
#     --build-arg DATE="$(TZ=UTC git log -1 --format=%cd --date=format-local:%FT%TZ)" -t registry.example.com/readthrough:v1.2.3 .

# The Go of go.mod. It compiles for the other platform, which is faster than to emulate it.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETARCH
ARG VERSION=devel
ARG COMMIT=unknown
ARG DATE=1970-01-01T00:00:00Z
RUN make rootfs ARCH="$TARGETARCH" VERSION="$VERSION" COMMIT="$COMMIT" DATE="$DATE"

FROM scratch
ARG VERSION=devel
ARG COMMIT=unknown
ARG DATE=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="readthrough" \
    org.opencontainers.image.description="A Redis sidecar that reads through to PostgreSQL" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$COMMIT" \
    org.opencontainers.image.created="$DATE"
COPY --from=build /src/bin/rootfs/ /
WORKDIR /
USER 65532:65532
ENTRYPOINT ["/sidecar"]
