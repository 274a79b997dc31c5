//! What a peer sends: frames cut from a stream (the first byte says where it was begun), and the message in a frame.
#![no_main]

#[path = "../../crates/server/src/peer/frame.rs"]
#[allow(dead_code)]
mod frame;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use quorate_proto::quoratepb::PeerMessage;

fuzz_target!(|input: &[u8]| {
    let Some((&begun, bytes)) = input.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let (begun, mut rest) = bytes.split_at(bytes.len().min(begun as usize));
    let mut reader = frame::FrameReader::new(begun, 4_096);
    runtime.block_on(async { while let Ok(Some(_)) = reader.next(&mut rest).await {} });
    if let Ok(message) = PeerMessage::decode(bytes) {
        let framed = frame::frame_message(&message);
        let mut reader = frame::FrameReader::new(&[], usize::MAX);
        let payload = runtime.block_on(reader.next(&mut &framed[..])).expect("it was just framed");
        assert_eq!(PeerMessage::decode(payload.expect("a frame")).as_ref(), Ok(&message));
    }
});
