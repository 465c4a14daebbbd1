//! WGSL of the renderer and the structs it reads.
