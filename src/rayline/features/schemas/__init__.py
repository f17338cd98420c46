"""What a table must look like: found in it, written as a file that people edit, and read again."""
