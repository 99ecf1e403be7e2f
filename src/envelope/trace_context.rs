//! Trace context: the header `traceparent` (<https://www.w3.org/TR/trace-context/#traceparent-header>), checked.

/// Its length: version, trace id, parent id and flags, in hexadecimal digits with hyphens between.
const LENGTH: usize = 55;

/// The text if it is a `traceparent` as version 00 has it; `None` for anything else, which must be ignored.
pub fn traceparent(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let mut part = |length: usize| {
        let is_hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        parts.next().filter(|part| part.len() == length).filter(is_hex)
    };
    let (version, trace, parent, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let is_set = |id: &str| id.bytes().any(|byte| byte != b'0');
    (text.len() == LENGTH && version != "ff" && is_set(trace) && is_set(parent)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_form_of_the_standard_passes() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(good), Some(good));
        assert!(traceparent(&good.replacen("00", "cc", 1)).is_some(), "a later version of the same form");
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319\u{e9}-b7ad6b7169203331-01",
        ] {
            assert_eq!(traceparent(bad), None, "{bad}");
        }
    }
}
