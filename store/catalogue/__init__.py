"""What is known of the documents: they themselves, their chunks, the words in them, and what the vectors must follow.

A database of its own, always SQLite, beside the one of the conversations: taking in a folder writes many megabytes in
long transactions, SQLite has one writer at a time, and nobody's reply should wait for that.
"""
