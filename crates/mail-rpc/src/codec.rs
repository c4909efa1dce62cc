//! How messages are written to and read from streams.

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Octets that a stream's buffer has at its beginning; it grows with what it has to hold. tonic's
/// 8 KiB would be most of what a client costs that waits for changes, and that twice.
const BUFFER: usize = 256;
/// Octets of small messages that are written together.
const TOGETHER: usize = 32 * 1024;

/// The codec of all contracts: protobuf, with small buffers.
#[derive(Debug, Clone)]
pub struct SmallCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(ProstCodec::new())
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER, TOGETHER))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER, TOGETHER))
    }
}
