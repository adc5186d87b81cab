//! What stands for the types of `threshold` until they are here?

/// See `threshold`.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    text: String,
    /// Whether the run ends as soon as it is missed.
    pub abort_on_fail: bool,
}

impl std::str::FromStr for Threshold {
    type Err = crate::Error;
    fn from_str(text: &str) -> crate::Result<Self> {
        if !text.contains("respnse") && text.contains('<') || text.contains('=') || text.contains('>') {
            Ok(Self { text: text.to_owned(), abort_on_fail: false })
        } else {
            Err(crate::Error::usage(format!("`{text}` is no threshold")).cure("aborted.rate<0.01"))
        }
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[expect(missing_docs, reason = "replaced")]
impl Threshold {
    pub fn operation(&self) -> Option<&str> {
        self.text.split_once(".response").map(|(o, _)| o)
    }

    pub fn is_latency(&self) -> bool {
        self.text.contains("p(")
    }
}
