//! Headless renderer: a mesh in, views with exact poses out.
