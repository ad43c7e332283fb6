"""Documents go in, passages come out.

reading/     a file or a web page becomes a title and blocks of text, in a process that may be killed
splitting    blocks become chunks, by structure first and then by tokens
embedding/   chunks and questions become vectors
vectors      the vectors, searched by Chroma, following what the catalogue says
ingest, sync one document, and a folder of them, all the way in
search       a question becomes passages: by meaning and by words, for those who may read them
knowledge    all of it under one roof, for the rooms above
"""
