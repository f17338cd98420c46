"""What goes over the wire: rows read and answers written, in each protocol, and what documents them."""
