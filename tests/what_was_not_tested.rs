//! What did the other tests leave out? The last of the test programs says it, so that nobody takes for tested what was not.

mod common;

use common::programs::{say, take_notes};

#[test]
fn is_said_at_the_end() {
    let notes = take_notes();
    if !notes.is_empty() {
        say(&format!(
            "\n{} left out, for want of a program:",
            if notes.len() == 1 { "1 test was".into() } else { format!("{} tests were", notes.len()) }
        ));
    }
    notes.iter().for_each(|line| say(line));
}
