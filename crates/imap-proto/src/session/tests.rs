use super::*;
use proptest::prelude::*;

fn limits() -> Limits {
    Limits {
        command: 4000,
        command_before_login: 1000,
        message: 5000,
        discard: 9000,
        ..Limits::default()
    }
}

/// All events and answers, the input cut into pieces. A shell that does what it is asked to.
fn talk<'a>(state: State, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, String) {
    let mut session = Session::new(limits());
    session.set_state(state);
    let mut out = Vec::new();
    let mut log: Vec<String> = Vec::new();
    for piece in pieces {
        session.handle_input(piece);
        while let Some(event) = session.poll_event(&mut out) {
            match &event {
                Event::Command(_, Command::Idle) => session.expect_done(),
                Event::Command(_, Command::Authenticate { .. }) => session.expect_auth(),
                Event::Command(_, Command::StartTls) => session.handle_tls(),
                _ => {}
            }
            let text = match &event {
                // Where a message is cut depends on the input's cuts.
                Event::AppendData(data) => match log.last_mut() {
                    Some(last) if last.starts_with("data") => {
                        last.push_str(&String::from_utf8_lossy(data));
                        continue;
                    }
                    _ => format!("data {}", String::from_utf8_lossy(data)),
                },
                other => format!("{other:?}"),
            };
            log.push(text);
        }
        assert!(session.buffer.len() <= 4000 + piece.len());
        assert!(session.command.len() <= 4000 + piece.len());
    }
    (log, String::from_utf8_lossy(&out).into_owned())
}

fn both_ways(state: State, input: &str) -> (Vec<String>, String) {
    let whole = talk(state, [input.as_bytes()]);
    assert_eq!(talk(state, input.as_bytes().chunks(1)), whole);
    assert_eq!(talk(state, input.as_bytes().chunks(5)), whole);
    whole
}

#[test]
fn commands_and_literals() {
    let (events, out) = both_ways(
        State::NotAuthenticated,
        "a1 LOGIN {3}\r\nana {6+}\r\nsecret\r\na2 NOOP\r\n",
    );
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].contains("Login") && !events[0].contains("secret"));
    assert_eq!(out, "+ go on\r\n");
}

#[test]
fn wrong_commands_are_answered_with_their_tag() {
    let (events, out) = both_ways(
        State::NotAuthenticated,
        "a XYZ\r\n\r\nb SELECT x\r\n* NOOP\r\n",
    );
    assert_eq!(events, Vec::<String>::new());
    assert_eq!(
        out,
        "a BAD unknown command\r\n* BAD expected a tag and a command\r\n\
         b BAD SELECT is not possible now\r\n* BAD expected a tag and a command\r\n"
    );
    let (events, out) = both_ways(State::Authenticated, &"x\r\n".repeat(30));
    assert_eq!(events, ["Close(BadCommands)"]);
    assert!(out.ends_with("* BYE too many wrong commands\r\n"));
}

#[test]
fn append_takes_several_messages() {
    let (events, out) = both_ways(
        State::Selected,
        "a APPEND x {3}\r\none (\\Seen) {3+}\r\ntwo\r\nb NOOP\r\n",
    );
    assert!(events[0].starts_with("AppendBegin"), "{events:?}");
    assert_eq!(events[1], "data one");
    assert!(events[2].starts_with("AppendNext"), "{events:?}");
    assert_eq!(
        events[3..5],
        ["data two".to_owned(), "AppendEnd".to_owned()]
    );
    assert_eq!(out.matches("+ go on").count(), 1, "{out}");
    let (events, out) = both_ways(State::Selected, "a APPEND x {3+}\r\none {6000+}\r\n");
    assert_eq!(events[2], "AppendFailed");
    assert!(out.contains("a NO [TOOBIG]"), "{out}");
}

#[test]
fn append_streams_its_message() {
    let (events, out) = both_ways(
        State::Selected,
        "a APPEND x (\\Seen) {5}\r\nab\r\nc\r\nb NOOP\r\n",
    );
    assert!(events[0].starts_with("AppendBegin"), "{events:?}");
    assert_eq!(
        events[1..3],
        ["data ab\r\nc".to_owned(), "AppendEnd".to_owned()]
    );
    assert!(events[3].contains("Noop"));
    assert_eq!(out, "+ go on\r\n");
    let (events, out) = both_ways(State::Selected, "a APPEND x {1+}\r\nz junk\r\nb NOOP\r\n");
    assert_eq!(events[2], "AppendFailed");
    assert!(out.starts_with("a BAD ") && events[3].contains("Noop"));
}

#[test]
fn literals_that_are_too_large_are_not_read() {
    let (events, out) = both_ways(State::Selected, "a APPEND x {6000}\r\nb NOOP\r\n");
    assert!(
        events[0].contains("Noop") && out.starts_with("a NO [TOOBIG]"),
        "{out}"
    );
    let unasked = format!("a APPEND x {{6000+}}\r\n{}\r\nb NOOP\r\n", "y".repeat(6000));
    let (events, out) = both_ways(State::Selected, &unasked);
    assert!(
        events.len() == 1 && events[0].contains("Noop"),
        "{events:?}"
    );
    assert!(out.starts_with("a NO [TOOBIG]"));
    let (events, out) = both_ways(State::Selected, "a APPEND x {99999999+}\r\n");
    assert_eq!(events, ["Close(TooMuch)"]);
    assert!(out.ends_with("* BYE the literal is far too large\r\n"));
    let (_, out) = both_ways(State::NotAuthenticated, "a LOGIN {2000}\r\n");
    assert!(out.starts_with("a NO [TOOBIG]"));
    let (_, out) = talk(State::NotAuthenticated, [&b"a LOGIN {5000+}\r\n"[..]]);
    assert!(out.contains("* BYE"), "{out}");
    // A client waits for the answer with its tag, however much of the line is here.
    let long = format!("a FETCH 1 {}\r\nb NOOP\r\n", "x".repeat(5000));
    let (events, out) = both_ways(State::Selected, &long);
    assert_eq!(out, "a BAD the command is too long\r\n");
    assert!(
        events.len() == 1 && events[0].contains("Noop"),
        "{events:?}"
    );
    let (events, out) = talk(State::Selected, "x".repeat(100_000).as_bytes().chunks(100));
    assert_eq!(out.matches("too long").count(), 1);
    assert!(out.ends_with("* BYE the line does not end\r\n"), "{out}");
    assert_eq!(events, ["Close(TooMuch)"]);
}

/// Long lines are judged by their length, not by how they come.
#[test]
fn long_lines_are_cut_anywhere() {
    let word = |len: usize| "x".repeat(len);
    for (input, answer) in [
        // At the limit, past it, and past what is read at all.
        (format!("a {}\r\nb NOOP\r\n", word(3996)), "a BAD "),
        (
            format!("a {}\r\nb NOOP\r\n", word(3997)),
            "a BAD the command is too long\r\n",
        ),
        (
            format!("{}\r\nb NOOP\r\n", word(8000)),
            "* BAD the command is too long\r\n",
        ),
        (
            format!("a {}\r\nb NOOP\r\n", word(9000)),
            "a BAD the command is too long\r\n* BYE ",
        ),
        (
            format!("a {} {{3+}}\r\nb NOOP\r\n", word(5000)),
            "a BAD the command is too long\r\n",
        ),
        (
            format!("a X {{9+}}\r\n123456789{}\r\nb NOOP\r\n", word(5000)),
            "a BAD the command",
        ),
        (
            format!("a APPEND x {{1+}}\r\nm{}\r\nb NOOP\r\n", " ".repeat(5000)),
            "a BAD the command",
        ),
        (
            format!("a APPEND x {{1+}}\r\nm{} {{1+}}\r\n", word(5000)),
            "a BAD the command is too",
        ),
        (
            format!("a APPEND x {{1+}}\r\nm{}\r\n", word(9001)),
            "a BAD the command is too long\r\n* BYE ",
        ),
    ] {
        let (_, out) = both_ways(State::Selected, &input);
        assert!(out.starts_with(answer), "{out}");
        let before = both_ways(State::NotAuthenticated, &input).1;
        assert!(before.contains("BAD"), "{before}");
    }
    let idle = format!("a IDLE\r\n{}DONE\r\nb NOOP\r\n", word(5000));
    let (events, _) = both_ways(State::Selected, &idle);
    assert!(
        events[1] == "IdleFailed" && events[2].contains("Noop"),
        "{events:?}"
    );
    let auth = format!("a AUTHENTICATE PLAIN\r\n{}\r\nb NOOP\r\n", word(1200));
    let (events, out) = both_ways(State::NotAuthenticated, &auth);
    assert_eq!(
        (events[1].as_str(), out.as_str()),
        ("Close(TooMuch)", "* BYE the line is too long\r\n")
    );
}

#[test]
fn idle_and_authenticate_take_lines_of_their_own() {
    let (events, _) = both_ways(State::Selected, "a IDLE\r\ndone\r\nb NOOP\r\n");
    assert_eq!(events[1], "IdleDone");
    let (events, _) = both_ways(State::Selected, "a IDLE\r\nb NOOP\r\nc NOOP\r\n");
    assert_eq!(events[1], "IdleFailed");
    assert!(
        events.len() == 3 && events[2].contains("Noop"),
        "{events:?}"
    );
    let (events, _) = both_ways(
        State::NotAuthenticated,
        "a AUTHENTICATE PLAIN\r\nAGEAYg==\r\nb NOOP\r\n",
    );
    assert!(events[1].starts_with("AuthResponse"), "{events:?}");
    let (events, _) = both_ways(State::NotAuthenticated, "a AUTHENTICATE PLAIN\r\n*\r\n");
    assert_eq!(events[1], "AuthCancelled");
}

#[test]
fn what_came_before_tls_is_forgotten() {
    let (events, out) = talk(
        State::NotAuthenticated,
        [b"a STARTTLS\r\nb LOGIN x y\r\n".as_slice()],
    );
    assert_eq!(events.len(), 1);
    assert_eq!(out, "");
}

proptest! {
    #[test]
    fn any_octets_do_no_harm(pieces: Vec<Vec<u8>>) {
        talk(State::Selected, pieces.iter().map(Vec::as_slice));
    }

    #[test]
    fn any_commands_are_the_same_in_pieces(words in proptest::collection::vec(
        "(a NOOP|b APPEND x|c SEARCH|d FETCH 1|e IDLE|DONE|f|\\*)( \\{[0-9]{1,4}\\+?\\})?\r\n", 0..12,
    )) {
        let text = words.concat();
        let whole = talk(State::Selected, [text.as_bytes()]);
        prop_assert_eq!(talk(State::Selected, text.as_bytes().chunks(3)), whole);
    }
}
