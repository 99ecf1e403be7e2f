# Where the crate rust_socketio finds OpenSSL: the system's headers, else a static OpenSSL of Debian's, which is put into
# target/tools/openssl. Sourced after common.sh.

# static_openssl TARGET: headers and static libraries, so that nothing of it is needed when the tests run.
static_openssl() {
    local target=$1 host
    from_debian libssl-dev '*' usr/include/openssl/ssl.h "$work/ssl.h"
    host=$(dpkg-architecture -q DEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
    mkdir "$work/openssl"
    mv "$work/unpacked-libssl-dev/usr/include" "$work/openssl/include"
    # What Debian keeps apart for each architecture.
    cp "$work/openssl/include/$host/openssl/"* "$work/openssl/include/openssl/"
    mv "$work/unpacked-libssl-dev/usr/lib/$host" "$work/openssl/lib"
    mv "$work/openssl" "$target"
}

if [[ -z ${OPENSSL_DIR:-} ]] && ! pkg-config --exists openssl 2>/dev/null; then
    [[ -d $tools/openssl ]] || static_openssl "$tools/openssl"
    export OPENSSL_DIR=$tools/openssl OPENSSL_STATIC=1
fi
