//! Answers as a person reads them.

use serde::Deserialize;
use serde_json::Value;

use super::super::machine::Waited;
use super::{KvpWhat, What};
use crate::vsp::ic::kvp::{KvpItem, KvpValue};

/// The answer to `what`; nothing where there is nothing to say.
pub(super) fn text(what: &What, answer: &Value) -> String {
    match what {
        What::Heartbeat => heartbeat(answer),
        What::Kvp(KvpWhat::Get { .. }) => {
            answer.get("value").map(|value| visible(&plain(value))).unwrap_or_default()
        }
        What::Kvp(KvpWhat::List { .. }) => items(answer),
        What::Shutdown(_) => ended(answer),
        What::Kvp(_) => String::new(),
        What::Status | What::Disk(_) | What::Net(_) => pretty(answer),
    }
}

fn pretty(answer: &Value) -> String {
    match answer {
        Value::Object(fields) if fields.is_empty() => String::new(),
        Value::Null => String::new(),
        _ => serde_json::to_string_pretty(answer).unwrap_or_default(),
    }
}

fn heartbeat(answer: &Value) -> String {
    let number = |name| answer.get(name).and_then(Value::as_u64);
    let word = |name| answer.get(name).and_then(Value::as_str).unwrap_or("unknown");
    let mut text = format!(
        "{}: application {}, {} sent, {} answered, {} missed, {} of these late",
        word("pulse"),
        word("application"),
        number("sent").unwrap_or_default(),
        number("answered").unwrap_or_default(),
        number("missed").unwrap_or_default(),
        number("late").unwrap_or_default(),
    );
    if let Some(ms) = number("last_answer_ms") {
        text += &format!(", last answer {}.{} s ago", ms / 1000, ms % 1000 / 100);
    }
    text
}

fn items(answer: &Value) -> String {
    let items = Vec::<KvpItem>::deserialize(answer).unwrap_or_default();
    let line = |KvpItem { key, value }: &KvpItem| {
        let value = match value {
            KvpValue::Number(number) => number.to_string(),
            KvpValue::Text(text) => visible(text),
        };
        format!("{}={value}", visible(key))
    };
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A guest's text without what would move a terminal's cursor or change its colours.
fn visible(text: &str) -> String {
    let harmless = |letter: char| match letter {
        letter if letter.is_control() => letter.escape_default().to_string(),
        letter => letter.to_string(),
    };
    text.chars().map(harmless).collect()
}

fn ended(answer: &Value) -> String {
    match Waited::deserialize(answer) {
        Ok(Waited { ended: Some(ended) }) => {
            let reason = serde_json::to_value(ended.reason).unwrap_or_default();
            format!("the machine has ended: {}, exit code {}", plain(&reason), ended.code)
        }
        _ => "the guest says that it will".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vsp::ic::kvp::Pool;

    #[test]
    fn a_guests_text_does_not_move_the_cursor() {
        assert_eq!(visible("a\u{1b}[2J\n\u{9b}b ü"), "a\\u{1b}[2J\\n\\u{9b}b ü");
    }

    #[test]
    fn answers_are_told_in_words() {
        let answer = json!({
            "pulse": "ok", "application": "healthy", "sent": 5, "answered": 4, "missed": 1, "late": 0,
            "last_answer_ms": 1_290,
        });
        let told = text(&What::Heartbeat, &answer);
        let golden = "ok: application healthy, 5 sent, 4 answered, 1 missed, 0 of these late, last answer 1.2 s ago";
        assert_eq!(told, golden);

        let list = What::Kvp(KvpWhat::List { pool: Pool::Auto });
        let answer = json!([{"key": "a", "value": "x y"}, {"key": "b", "value": 7}]);
        assert_eq!(text(&list, &answer), "a=x y\nb=7");
        let get = What::Kvp(KvpWhat::Get { key: "a".into(), pool: None });
        assert_eq!(text(&get, &json!({"value": "x"})), "x");
    }
}
