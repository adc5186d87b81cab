//! What went wrong on purpose, and when? An entry of a history, as long as the others.

use super::RECORD_BYTES;

/// Stands where a record has the kind of its operation.
pub(super) const MARK: u8 = 0x7F;

/// Something that went wrong on purpose, on the same clock as the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The fault's name: at most 16 bytes.
    pub name: String,
    /// Which of those that were planned.
    pub planned: u32,
    /// When it was done.
    pub at: u64,
    /// From when on it had its effect.
    pub effective: u64,
    /// When it was over.
    pub healed: u64,
    /// Whether it struck.
    pub struck: bool,
}

impl Mark {
    pub(super) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let name = &self.name.as_bytes()[..self.name.len().min(16)];
        bytes[..name.len()].copy_from_slice(name);
        bytes[16..24].copy_from_slice(&self.at.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.healed.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.planned.to_le_bytes());
        bytes[36] = u8::from(self.struck);
        bytes[40..48].copy_from_slice(&self.effective.to_le_bytes());
        bytes[78] = MARK;
        bytes
    }

    pub(super) fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let name = bytes[..16].split(|byte| *byte == 0).next()?;
        Some(Self {
            name: String::from_utf8(name.to_vec()).ok()?,
            planned: u32::from_le_bytes(*bytes[32..].first_chunk()?),
            at: u64::from_le_bytes(*bytes[16..].first_chunk()?),
            effective: u64::from_le_bytes(*bytes[40..].first_chunk()?),
            healed: u64::from_le_bytes(*bytes[24..].first_chunk()?),
            struck: bytes[36] == 1,
        })
    }
}
