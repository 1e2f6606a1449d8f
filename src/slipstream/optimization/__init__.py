"""What makes an assistant faster or cheaper; each part is a plain class, usable without the server."""
