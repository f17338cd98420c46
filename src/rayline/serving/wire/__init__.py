"""What goes over the wire, pure: rows read and answers written, in each protocol, and what documents them."""
