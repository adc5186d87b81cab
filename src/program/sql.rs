//! What in an SQL text is a name, and what is only text?
