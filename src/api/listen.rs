//! Where do requests come in? Each thread has a listener of its own on the same port; the kernel deals connections out.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::{Error, Result};

/// Connections that may wait to be taken.
const BACKLOG: u32 = 1024;

/// One listener for each of `threads`, and where they listen.
///
/// # Errors
/// Usage: somebody listens there already, or nobody can.
pub(super) async fn listeners(at: SocketAddr, threads: u16) -> Result<(Vec<std::net::TcpListener>, SocketAddr)> {
    if at.port() != 0 {
        // By itself first: those who share a port would not be told that another server has it.
        let alone = socket(at, false)?;
        drop(alone);
    }
    let first = socket(at, true)?;
    let at = first.local_addr().map_err(|why| refused(at, why))?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(socket(at, true)?);
    }
    Ok((listeners, at))
}

fn socket(at: SocketAddr, is_shared: bool) -> Result<std::net::TcpListener> {
    let open = || -> std::io::Result<std::net::TcpListener> {
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(is_shared)?;
        socket.bind(at)?;
        let listener: TcpListener = socket.listen(BACKLOG)?;
        listener.into_std()
    };
    open().map_err(|why| refused(at, why))
}

fn refused(at: SocketAddr, why: std::io::Error) -> Error {
    let (what, cure) = match why.kind() {
        std::io::ErrorKind::AddrInUse => (
            format!("somebody listens on {at} already"),
            format!("--listen {}:0 takes a free port; `ss -ltnp 'sport = :{}'` says who it is", at.ip(), at.port()),
        ),
        std::io::ErrorKind::PermissionDenied => {
            (format!("{at} cannot be listened on without more rights"), format!("--listen {}:8971", at.ip()))
        }
        _ => (format!("{at} cannot be listened on"), "--listen 127.0.0.1:8971, or an address of this machine".into()),
    };
    Error::usage(what).because(why).cure(cure)
}
