//! Why a device refused or failed.

use std::fmt;

/// What everything here returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a device refused or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no device, or none that fits what was asked for.
    Unavailable(String),
    /// Memory that the device does not have, or a size over its limits.
    OutOfMemory(String),
    /// The device is gone: closed, reset or removed.
    Lost(String),
    /// A shader that does not compile.
    Compile {
        /// Its name.
        shader: String,
        /// What the compiler said.
        message: String,
    },
    /// The device did not answer in time.
    Timeout(String),
    /// A call that the device refused: an error of this crate.
    Validation(String),
    /// Arguments that do not fit.
    Shape(String),
    /// The caller asked to stop.
    Interrupted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unavailable(message)
            | Error::OutOfMemory(message)
            | Error::Lost(message)
            | Error::Timeout(message)
            | Error::Validation(message)
            | Error::Shape(message) => f.write_str(message),
            Error::Compile { shader, message } => {
                write!(f, "gpu: shader {shader} does not compile: {message}")
            }
            Error::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {}
