//! Where in the file?
