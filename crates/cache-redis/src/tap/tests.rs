use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

use super::*;

fn message(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!(">3\r\n${}\r\n{kind}\r\n$4\r\nec:0\r\n${}\r\n", kind.len(), payload.len()).into_bytes();
    bytes.extend(payload);
    bytes.extend(b"\r\n");
    bytes
}

/// What the sink and the client get of bytes that arrive in pieces of this size.
async fn tapped(bytes: &[u8], piece: usize) -> (Vec<Bytes>, Vec<u8>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = heard.clone();
    let (mut server, stream) = tokio::io::duplex(piece);
    let mut tap = Tap::new(stream, Some(Arc::new(move |hint| sink.lock().push(hint))));
    let mut passed = Vec::new();
    let (written, read) = tokio::join!(
        async move {
            server.write_all(bytes).await?;
            server.shutdown().await
        },
        tap.read_to_end(&mut passed)
    );
    written.unwrap();
    read.unwrap();
    let heard = std::mem::take(&mut *heard.lock());
    (heard, passed)
}

/// One of everything that a server says.
const ANSWERS: [&[u8]; 12] = [
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":12\r\n",
    b"_\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"$5\r\na\r\nbc\r\n",
    b"%2\r\n+proto\r\n:3\r\n$4\r\nmode\r\n*2\r\n,1.5\r\n#t\r\n",
    b">3\r\n$9\r\nsubscribe\r\n$4\r\nec:0\r\n:1\r\n",
    b"~1\r\n=7\r\ntxt:abc\r\n",
    b"!7\r\nERR bad\r\n(123456789012345678901234567890\r\n",
    b"*0\r\n",
];

#[tokio::test]
async fn messages_are_taken_out_and_all_else_passes_as_it_came() {
    let (mut stream, mut hints, mut answers) = (Vec::new(), Vec::new(), Vec::<u8>::new());
    for (number, answer) in ANSWERS.iter().enumerate() {
        let payload = [vec![number as u8; number], b"\r\n>3\r\n".to_vec()].concat();
        stream.extend(message(if number % 2 == 0 { "message" } else { "smessage" }, &payload));
        stream.extend(*answer);
        hints.push(payload);
        answers.extend(*answer);
    }
    for piece in [1, 2, 3, 7, 64, 100_000] {
        let (heard, passed) = tapped(&stream, piece).await;
        assert_eq!(heard, hints, "in pieces of {piece}");
        assert_eq!(passed, answers, "in pieces of {piece}");
    }
}

#[tokio::test]
async fn large_messages_arrive_whole() {
    let payloads = [vec![1; 60_000], vec![2; 3], vec![3; CHUNK]];
    let stream: Vec<u8> = payloads.iter().flat_map(|payload| message("message", payload)).collect();
    let (heard, passed) = tapped(&stream, 5_000).await;
    assert_eq!(heard, payloads);
    assert!(passed.is_empty());
}

#[tokio::test]
async fn what_is_not_understood_goes_to_the_client_with_all_behind_it() {
    for odd in [&b"?what\r\n"[..], b"*?\r\n", b"$99999999999\r\n", b">3\r\n$7\r\nmessage\r\n:1\r\n+x\r\n"] {
        let behind = [odd, &message("message", b"late")].concat();
        let stream = [message("message", b"early"), behind.clone()].concat();
        let (heard, passed) = tapped(&stream, 16).await;
        assert_eq!(heard, [Bytes::from_static(b"early")]);
        assert_eq!(passed, behind);
    }
}

#[tokio::test]
async fn a_frame_that_is_cut_short_goes_to_the_client() {
    let whole = message("message", b"whole");
    let (heard, passed) = tapped(&whole[..whole.len() - 3], 16).await;
    assert!(heard.is_empty());
    assert_eq!(passed, whole[..whole.len() - 3]);
}
