//! What does the proxy do with a socket? Both directions use it at once, so nothing here needs it alone.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use tokio::net::{TcpStream, UnixStream};

use crate::pg::{ConnectOptions, Host};

/// A connection to a client or to the server.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to a server.
    pub async fn connect(options: &ConnectOptions) -> io::Result<Self> {
        match &options.host {
            Host::Tcp(host) => {
                let stream = TcpStream::connect((host.as_str(), options.port)).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Host::Socket(directory) => {
                Ok(Self::Unix(UnixStream::connect(directory.join(format!(".s.PGSQL.{}", options.port))).await?))
            }
        }
    }

    /// Reads what there is, at least a byte; 0 at the end.
    pub async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_read(into)
                }
                Self::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read(into)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Writes all of it.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match written {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that nothing more will be written; what the other side still says can be read.
    pub fn finish(&self) {
        // It is about the connection, not the descriptor, so that of a second one it holds as well. One that has ended needs no end.
        let _ = match self {
            Self::Tcp(stream) => second(stream).and_then(|fd| std::net::TcpStream::from(fd).shutdown(Shutdown::Write)),
            Self::Unix(stream) => second(stream).and_then(|fd| std::os::unix::net::UnixStream::from(fd).shutdown(Shutdown::Write)),
        };
    }

    /// When it is closed, the other side gets a reset and what is still on its way is lost. Sockets in the file system know no reset.
    pub fn reset_when_closed(&self) {
        if let Self::Tcp(stream) = self {
            // One that has ended cannot be reset.
            let _ = stream.set_zero_linger();
        }
    }
}

fn second(stream: &impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
