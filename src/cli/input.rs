//! Reads files that a flag names, or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::failure::Failure;
use super::options::Size;

/// Maximum size of a file of certificates or of a key.
pub(super) const PEM_BYTES_MAX: u64 = 1 << 20;
/// Maximum size of a body. Gateways accept less, but `send` may show how one refuses, and `verify`
/// judges a body that something has made larger.
pub(super) const BODY_BYTES_MAX: u64 = 16 << 20;
/// Maximum size of recorded deliveries: at least 80 with the largest bodies that a gateway accepts.
pub(super) const DELIVERIES_BYTES_MAX: u64 = 64 << 20;

/// Reads the file that a flag names; `-` is standard input. A larger one is refused, and not read
/// to its end.
pub(super) fn read_input(flag: &str, path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let read = if path.as_os_str() == "-" {
        bounded(io::stdin().lock(), bytes_max)
    } else {
        File::open(path).and_then(|file| bounded(file, bytes_max))
    };
    read.map_err(|error| Failure::Usage(format!("{flag}: {}: {error}", path.display())))
}

/// Everything that a reader has, if that is at most this much.
pub(super) fn bounded(reader: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("larger than {}", Size(bytes_max));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_read_up_to_its_bound() {
        let whole = bounded(&[7; 1024][..], 1024).expect("it fits");
        assert_eq!(whole, [7; 1024]);
        let endless = bounded(io::repeat(0), 1024).expect_err("endless");
        assert_eq!(endless.to_string(), "larger than 1 KiB");
        let path = Path::new("/dev/zero");
        let failure = read_input("--ca-cert", path, PEM_BYTES_MAX).expect_err("endless");
        assert_eq!(
            failure.to_string(),
            "--ca-cert: /dev/zero: larger than 1 MiB"
        );
        assert_eq!(failure.exit_code(), 2);
    }
}
