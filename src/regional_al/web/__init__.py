"""The annotation page: a server that shows what a waiting run asks and logs what people answer."""
