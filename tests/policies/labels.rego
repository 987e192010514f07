# Labels and annotations by which costs and owners are found.
package policies.labels

violation contains {"msg": msg} if {
	some part in ["labels", "annotations"]
	some name in input.parameters[part]
	not input.review.object.metadata[part][name]
	msg := sprintf("%v has no %v", [part, name])
}
